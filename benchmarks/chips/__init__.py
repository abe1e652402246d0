"""The pictures and figures of `docs/chips.md`, one module a family, all drawn from the library itself."""
