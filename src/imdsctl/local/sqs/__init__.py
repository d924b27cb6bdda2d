"""Amazon SQS: standard queues, as far as a queue of events needs them."""
