"""The authorizer as AWS Lambda runs it: its zip, and AWS's runtime and emulator on this machine."""
