"""Draws weather over outdoor places."""

import numpy as np

from services.encoder.bundled.canvas import Canvas, repeat

WEATHERS = ("day", "sunset", "night", "fog", "rain", "snow")


def draw(canvas: Canvas, weather: str, time: float, random: np.random.Generator) -> None:
    """Change the finished picture of a place; rain and snow move with `time`, in seconds."""
    pixels = canvas.pixels
    match weather:
        case "day":
            pass
        case "sunset":
            glow = np.clip(1.25 - canvas.y * 1.1, 0.2, 1)
            pixels *= np.asarray((0.85, 0.55, 0.42), np.float32)
            canvas.paint(0.38 * np.broadcast_to(glow, pixels.shape[:2]), (1.0, 0.42, 0.12))
        case "night":
            pixels *= np.asarray((0.22, 0.26, 0.42), np.float32)
            moon = random.uniform((0.1, 0.08), (0.9, 0.16))
            canvas.paint(canvas.inside(np.hypot(canvas.x - moon[0], canvas.y - moon[1]) - 0.05), (0.95, 0.95, 0.8))
        case "fog":
            thick = np.clip(0.85 - 0.25 * canvas.y, 0, 1)
            canvas.paint(np.broadcast_to(thick, pixels.shape[:2]), (0.78, 0.80, 0.82))
        case "rain":
            pixels *= np.asarray((0.50, 0.56, 0.62), np.float32)
            offset, phase = repeat(canvas.x + 0.2 * canvas.y, 12, random.uniform(0, 0.4, 29))
            streak = np.maximum(abs(offset) / 12 - 0.005, abs((canvas.y + phase - 1.3 * time) % 0.4 - 0.2) - 0.06)
            canvas.paint(0.8 * canvas.inside(streak), (0.80, 0.86, 0.95))
        case "snow":
            pixels *= np.float32(0.7)
            pixels += np.float32(0.22)
            offset, phase = repeat(canvas.x - 0.1 * canvas.y, 8, random.uniform(0, 0.2, 29))
            flake = np.hypot(offset / 8, (canvas.y + phase - 0.15 * time) % 0.2 - 0.1) - 0.017
            canvas.paint(canvas.inside(flake), (1.0, 1.0, 1.0))
        case _:
            raise ValueError(f"weather {weather!r}, not one of {', '.join(WEATHERS)}")
