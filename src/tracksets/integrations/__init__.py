"""Back ends that not everyone has; each is imported when it is used."""
