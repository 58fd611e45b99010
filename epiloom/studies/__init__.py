"""Questions asked of data and models: one file per question."""
