"""The routes of the server, by what they are about. Each says which role it needs."""
