"""The `star` command: one module a command. Joins the stages; holds no algorithm."""
