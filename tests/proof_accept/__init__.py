"""The recorded experiment behind `accept`: how often it errs, and what it finds (docs/proof-accept.md)."""
