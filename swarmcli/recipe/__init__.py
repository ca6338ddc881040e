"""What a YAML recipe says (`schema`), how it is read (`load`), and what the program uses (`values`)."""
