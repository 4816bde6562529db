"""Who may read and who may write: a JWT authorizer for AWS Lambda and, with the same code, inside a service."""
