"""Pure parts that know no algorithm."""
