"""What the services share; each module is one idea, and none of them knows a service."""
