"""The package's functions as the official one has them: arguments, answers, errors and oddities."""
