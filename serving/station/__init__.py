"""A station on a line: pictures from a folder to the service, verdicts to a PLC and into the folder."""
