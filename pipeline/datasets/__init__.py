"""Recipes: pure functions from raw folders to a Listing of VideoRecords, one module a data set."""
