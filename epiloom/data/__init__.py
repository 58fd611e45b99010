"""From public files to binned signal, reads, genes and windows."""
