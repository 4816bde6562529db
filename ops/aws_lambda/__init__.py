"""The authorizer as AWS Lambda runs it: its zip, and AWS's own runtime and emulator for it on this machine."""
