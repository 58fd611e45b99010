"""Tables, figures, browser tracks and the report."""
