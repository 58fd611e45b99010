"""EpiGePT: DNA, motifs and the expression of transcription factors -> signals of a cell in bins."""
