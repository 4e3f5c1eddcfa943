"""Who does the work: this process, local worker processes, or a Dask cluster."""
