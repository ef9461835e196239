"""Answers of a form: JSON that satisfies a schema, a regular expression, a grammar."""
