"""The service: a Ray Serve application that judges images with the version of the model its alias points to."""
