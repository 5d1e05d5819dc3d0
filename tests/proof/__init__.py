"""The recorded experiment behind `ab` and `gate`: how often they cry wolf, and what they find (docs/proof.md)."""
