"""What tests share: processes, clients, the oracle, random work."""
