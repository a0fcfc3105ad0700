"""The data sets, one file each: this is where one adds a data set."""
