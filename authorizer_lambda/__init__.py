"""The JWT authorizer of reads and writes: the same code for AWS Lambda, for a proxy and inside services."""
