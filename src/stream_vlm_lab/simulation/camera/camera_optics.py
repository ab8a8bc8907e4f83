"""Camera effects: pan, shake, exposure, vignette, shadows, blur, noise and compression."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.camera.degrade import degrade_light, degrade_pixels
from stream_vlm_lab.simulation.camera.faults import Fault
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.scene.scene import Scene


class Sensor:
    """Turns a clean rendering into a camera picture; the result depends only on the time."""

    def __init__(self, scene: Scene, seed: int, width: int, height: int) -> None:
        self._scene, self._camera, self._seed = scene, scene.camera, seed
        self._width, self._height = width, height
        rng = np.random.default_rng([seed, 0xCA4E7A])
        self._phases = rng.uniform(0, 2 * np.pi, 12)
        noise = rng.normal(0, self._camera.noise, (2 * height, 2 * width, 3)).astype(np.float32)
        # Demosaicing in a real sensor makes the noise of neighbouring pixels similar.
        softened = cv2.GaussianBlur(noise, (0, 0), 0.6)
        self._noise = np.clip(
            softened / max(float(softened.std()), 1e-6) * self._camera.noise, -60, 60
        ).astype(np.int8)
        self._grade = self._grading()
        self._gamma = np.array(
            [255 * (level / 255) ** self._camera.gamma for level in range(256)], np.uint8
        )
        self._gain = {on: self._light(on) for on in (None, False, True)}
        self._shadows = self._shadow_map(rng) if self._camera.shadows else None

    def margin(self) -> int:
        """Pixels by which the background must be larger than the picture on every side."""
        return (
            int(np.ceil(self._camera.pan * self._width + 5 * self._camera.shake * self._height)) + 2
        )

    def pan_px(self, t_s: float) -> float:
        """Pan of the camera to the right at `t_s`, in pixels."""
        turn = 2 * np.pi * t_s / self._camera.pan_period_s + self._phases[0]
        return float(self._camera.pan * self._width * np.sin(turn))

    def shake_px(self, t_s: float) -> tuple[float, float]:
        """Shift of the view by camera shake at `t_s`: right and down, in pixels."""
        size = self._camera.shake * self._height
        if not size:
            return 0.0, 0.0
        rates = (1.3, 2.9, 4.7, 1.7, 3.1, 5.3)
        waves = [
            np.sin(2 * np.pi * rate * t_s + phase)
            for rate, phase in zip(rates, self._phases[1:7], strict=True)
        ]
        return float(size * sum(waves[:3])), float(size * sum(waves[3:]))

    def expose(
        self, frame: Image, t_s: float, lamp_on: bool | None, faults: Sequence[Fault] = ()
    ) -> Image:
        """The camera picture, uint8 RGB of the same shape.

        Args:
            frame: the clean rendering, uint8 RGB, (H, W, 3).
            t_s: time in seconds.
            lamp_on: whether the lamp is on; None without a lamp.
            faults: the faults at `t_s`.
        """
        camera = self._camera
        drift = 1 + camera.exposure_drift * np.sin(
            2 * np.pi * t_s / camera.exposure_period_s + self._phases[7]
        )
        drift += (
            0.25
            * camera.exposure_drift
            * np.sin(2 * np.pi * t_s / (0.37 * camera.exposure_period_s) + self._phases[8])
        )
        if self._shadows is not None:
            frame = np.asarray(cv2.multiply(frame, self._shadow_at(t_s), dtype=cv2.CV_8U), np.uint8)
        gain = camera.exposure * float(drift)
        frame = np.asarray(
            cv2.multiply(frame, self._gain[lamp_on], scale=gain, dtype=cv2.CV_8U), np.uint8
        )
        frame = np.asarray(cv2.LUT(cv2.transform(frame, self._grade), self._gamma), np.uint8)
        if camera.blur:
            frame = np.asarray(
                cv2.GaussianBlur(frame, (0, 0), max(0.35, camera.blur * self._height / 240)),
                np.uint8,
            )
        for fault in faults:
            frame = degrade_light(frame, fault, t_s)
        draw = np.random.default_rng([self._seed, round(t_s * 1e6)])
        down, right = int(draw.integers(self._height)), int(draw.integers(self._width))
        noise = self._noise[down : down + self._height, right : right + self._width]
        frame = np.asarray(cv2.add(frame, noise, dtype=cv2.CV_8U), np.uint8)
        for fault in faults:
            frame = degrade_pixels(frame, fault, t_s)
        return self._compress(frame) if camera.jpeg_quality else frame

    def _compress(self, frame: Image) -> Image:
        written, data = cv2.imencode(
            ".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, self._camera.jpeg_quality]
        )
        if not written:
            raise StreamError(
                f"a simulated frame of {self._width}x{self._height} could not be compressed; choose"
                " another size"
            )
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

    def _grading(self) -> NDArray[np.float32]:
        """3 x 3 colour matrix of the camera, with lower or higher saturation."""
        grey = np.array([0.299, 0.587, 0.114], np.float32)
        return self._camera.saturation * np.eye(3, dtype=np.float32) + (
            1 - self._camera.saturation
        ) * np.tile(grey, (3, 1))

    def _light(self, lamp_on: bool | None) -> NDArray[np.float32]:
        """Vignette, colour of the light and glow of the lamp: float32 gain (H, W, 3)."""
        ys, xs = np.mgrid[0 : self._height, 0 : self._width].astype(np.float32)
        x, y = xs / self._width - 0.5, ys / self._height - 0.5
        gain = 1 - self._camera.vignette * 2 * (x * x + y * y)
        warmth = np.sqrt(self._camera.warmth)
        light = gain[..., None] * np.array([warmth, 1.0, 1 / warmth], np.float32)
        lamp = next((fixture for fixture in self._scene.fixtures if fixture.kind == "lamp"), None)
        if lamp is not None and lamp_on is not None:
            rng = np.random.default_rng(lamp.style_seed + 1)
            dim, strength = float(rng.uniform(0.6, 0.86)), float(rng.uniform(0.3, 0.6))
            right, down = lamp.light_source
            area = lamp.area
            lamp_x = (
                (area.left + (area.right - area.left) * right - 0.5) * self._width / self._height
            )
            lamp_y = area.top + (area.bottom - area.top) * down - 0.5
            distance = (x * self._width / self._height - lamp_x) ** 2 + (y - lamp_y) ** 2
            glow = (
                (0.45 + 0.55 * np.exp(-distance / float(rng.uniform(0.15, 0.5)))) * strength
                if lamp_on
                else np.zeros_like(distance)
            )
            light *= dim + glow[..., None] * np.array([1.15, 1.0, 0.72], np.float32)
        return np.asarray(light, np.float32)

    def _shadow_map(self, rng: np.random.Generator) -> NDArray[np.float32]:
        coarse = rng.normal(0, 1, (6, 8)).astype(np.float32)
        soft = cv2.resize(
            coarse, (2 * self._width, 2 * self._height), interpolation=cv2.INTER_CUBIC
        )
        depth = np.clip(soft, 0, 1.5) / 1.5 * self._camera.shadows
        return np.ascontiguousarray(np.repeat((1 - depth)[..., None], 3, axis=2), np.float32)

    def _shadow_at(self, t_s: float) -> NDArray[np.float32]:
        assert self._shadows is not None
        turn = 2 * np.pi * t_s / self._camera.shadow_period_s
        down = int(self._height * (0.5 + 0.45 * np.sin(turn + self._phases[9])))
        right = int(self._width * (0.5 + 0.45 * np.sin(0.7 * turn + self._phases[10])))
        return self._shadows[down : down + self._height, right : right + self._width]
