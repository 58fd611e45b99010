"""epiloom: deep-learning models of the human epigenome, from public accessions to a report."""
