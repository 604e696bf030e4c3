"""The Spark session and the Java it needs."""
