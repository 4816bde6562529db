"""The operator's two questions: where is the projector, and is all set right?"""
