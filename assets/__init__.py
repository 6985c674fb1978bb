"""What Dagster and people see: definitions, previews, deployments and the command line."""
