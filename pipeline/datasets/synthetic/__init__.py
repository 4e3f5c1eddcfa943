"""A data set that is drawn: articulated figures in NTU's own file formats."""
