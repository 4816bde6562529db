"""Local servers: started, waited for, stopped, killed, paused."""
