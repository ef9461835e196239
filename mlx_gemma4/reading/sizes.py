"""How numbers of bytes are written for people."""


def size(count: float) -> str:
    """Bytes in decimal units, three digits: `1.53 GB`, `402 MB`, `8.52 MB`."""
    number, unit = (count / 1e9, "GB") if count >= 999.5e6 else (count / 1e6, "MB")
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f} {unit}"
