"""Sample videos: a search in Pexels goes in; normalised clips in S3 and a manifest of them come out."""
