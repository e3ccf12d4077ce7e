"""Events, resume tokens and what may be refused: values and decisions without transport or database."""
