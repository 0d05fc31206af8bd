"""The tools that Seriatim is measured against, each doing a job the best way that was found."""
