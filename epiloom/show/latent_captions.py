"""What the report says below the figures of latent annotations, and before the tasks."""

from __future__ import annotations

RECONSTRUCTION = (
    "A dot per track: R² on the test chromosomes, the share of the track's variance that comes "
    "back from the latents, and from as many principal components of the same training "
    "chromosomes; dots of one track are joined. Good: near 1, and the first column above the "
    "second. Tracks of shallow data come back badly from both: noise cannot be compressed."
)
CURVES = (
    "Mean squared error of the z-scores by epoch, one colour per fold; 1 is what the mean of each "
    "track costs. Good: both lines fall and level off together. The weights of the ringed epoch "
    "are kept; where the learning rate ends at zero, that is usually the last."
)
SMOOTHNESS = (
    "How well a latent is told by itself some distance away: R² between two positions, mean over "
    "latents. High at 25 bp to 1 kb: the annotation is smooth, neighbours hold the same. What is "
    "left at 100 kb or more is large domains; a curve at zero from 1 kb on has none. Smoother is "
    "not better as such: an annotation that is constant is perfectly smooth and tells nothing."
)
CORRELATIONS = (
    "Each latent beside the share of G and C and the conservation of its bins. Neither was an "
    "input, so a correlation says that the tracks carry it. The sign and the number of a latent "
    "mean nothing by themselves, and differ between runs."
)
POSITIONS = (
    "Sampled bins on the two main axes of their latents: left by what lies there, right by "
    "clusters found without knowing it. Good: start sites lie apart from most other bins. Classes "
    "are sampled evenly, so their sizes here say nothing about the genome."
)
ATTRIBUTION = (
    "Which tracks the latents listen to: shares of |gradient × input|. A bar beyond its upright "
    "mark counts for more than its number of tracks; a bar far short of it is hardly listened to."
)
PRECISION = (
    "Precision and recall over the test windows of all folds together. Good: the line of the "
    "latents above all others; the dotted line is the prevalence, what guessing has."
)
REMARKS = (
    "Whole chromosomes held out: trees are trained on other chromosomes than they are tested on, "
    "by the folds of the configuration. This is the number to believe.",
    "Shuffled windows held out: neighbours, which overlap or are alike, fall on both sides, so "
    "these scores are too high. They are here because the studies of Epi-LSTM and Avocado report "
    "them; compare them with nothing else.",
    "The latents are the same in every cell type, only the labels differ, so a score mostly says "
    "how typical a cell is. The honest competitor is the cell average: the share of the other "
    "cells in which a window is positive. It reads labels, not tracks, and needs another cell.",
    "Average precision depends on the prevalence: 0.5 is poor where half of the windows are "
    "positive, and very good where one in twenty is. Prevalence stands beside it everywhere; in "
    "small folds a ranking by chance lies a little above it (column chance of the table).",
    "“better” and “worse” mean that the 95% interval of the paired difference excludes zero "
    "(stretches of about 1 Mb are drawn again, the same for both). Where there are too few "
    "stretches for an interval it is “open”. One clear difference in forty is expected by chance.",
)
RECORDED = (
    "Scores of the published study are not shown beside these: the arrays stored with its code are "
    "not independent of one another, and how they arose is not known."
)
