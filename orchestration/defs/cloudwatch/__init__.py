"""Publication to CloudWatch."""
