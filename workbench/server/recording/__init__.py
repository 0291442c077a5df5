"""What the server measures: rows for the metrics, figures for alerts and for Prometheus."""
