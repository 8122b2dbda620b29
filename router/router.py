"""Nearest K-Means centre to modality and expert; the fit is in ``training/router.py``."""

import io
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifest import WEIGHTS_DIR, WeightsError, verified_bytes
from router.features import N_FEATURES, hsv_features, rgb_features
from router.names import BRIGHTFIELD_EXPERTS, EXPERT_OF, MODALITIES

__all__ = ["BRIGHTFIELD_EXPERTS", "EXPERT_OF", "MODALITIES"]  # passed on

ROUTER_NAME = "router.joblib"
FORMAT = 1
VARIANCE_FLOOR = 1e-3  # of values in [0, 1]: smaller variances count as equal; see ARCHITECTURE.md


@dataclass(frozen=True)
class Route:
    """Where an image goes.

    Attributes
    ----------
    modality : str
        One of :data:`MODALITIES`.
    expert : str
        The network that segments it.
    distances : dict of str to float
        Distance from the image's features to the nearest centre of each modality, in standard
        deviations of the training images; empty if the user gave the modality.
    """

    modality: str
    expert: str
    distances: dict[str, float]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Centres of one K-Means and the names they were given afterwards.

    Attributes
    ----------
    mean, deviation : (6,) ndarray of float64
        Of the training images' features after :func:`with_log_variance`; deviation > 0.
    centres : (K, 6) ndarray of float64
        In standardised features.
    names : tuple of str
        One of each centre; several centres may share one.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    centres: NDArray[np.float64]
    names: tuple[str, ...]

    def distances(self, features: NDArray[np.float64]) -> dict[str, float]:
        """Measure how far an image is from each name.

        Parameters
        ----------
        features : (6,) ndarray of float64
            As ``router.features`` measures them.

        Returns
        -------
        dict of str to float
            Euclidean distance to the nearest centre of each name, nearest name first.
        """
        point = (with_log_variance(features) - self.mean) / self.deviation
        lengths = np.linalg.norm(self.centres - point, axis=1)
        nearest: dict[str, float] = {}
        for i in np.argsort(lengths, kind="stable"):
            nearest.setdefault(self.names[i], float(lengths[i]))
        return nearest

    def to_plain(self) -> dict[str, Any]:
        """Give numbers and names as lists, which joblib writes as a pickle without any class."""
        return {
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "centres": self.centres.tolist(),
            "names": list(self.names),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], known: tuple[str, ...]) -> "Clusters":
        """Rebuild clusters from :meth:`to_plain`; ValueError if sizes or names do not fit."""
        mean, deviation, centres = (
            np.asarray(plain[key], np.float64) for key in ("mean", "deviation", "centres")
        )
        names = tuple(str(name) for name in plain["names"])
        if centres.shape != (len(names), N_FEATURES) or not names:
            raise ValueError(f"centres of shape {centres.shape} for {len(names)} names")
        if mean.shape != (N_FEATURES,) or deviation.shape != (N_FEATURES,):
            raise ValueError(f"scaling of shapes {mean.shape} and {deviation.shape}")
        if not set(names) <= set(known):
            raise ValueError(f"unknown names {sorted(set(names) - set(known))}")
        return cls(mean, deviation, centres, names)


@dataclass(frozen=True, eq=False)
class Router:
    """Two K-Means: modality from HSV, and for brightfield the size of the cells from RGB.

    Attributes
    ----------
    modalities, brightfield : Clusters
        Named by modality, and by expert.
    """

    modalities: Clusters
    brightfield: Clusters

    def route(self, overview: NDArray[np.generic]) -> Route:
        """Choose the modality and the expert of an image.

        Parameters
        ----------
        overview : (Y, X, C) ndarray of int or float, C in {1, 3}
            The image, possibly reduced, or fields of it, in any unit.

        Returns
        -------
        Route
            The nearest centre's.

        Raises
        ------
        ValueError
            If the array is empty or not (Y, X, C) with C in {1, 3}.
        """
        distances = self.modalities.distances(hsv_features(overview))
        modality = next(iter(distances))
        return Route(modality, self.expert_for(modality, overview), distances)

    def expert_for(self, modality: str, overview: NDArray[np.generic]) -> str:
        """Choose the expert of an image whose modality is known.

        Parameters
        ----------
        modality : str
            One of :data:`MODALITIES`.
        overview : (Y, X, C) ndarray of int or float, C in {1, 3}
            As :meth:`route` takes it; read for brightfield only.

        Returns
        -------
        str
            Name of the expert.

        Raises
        ------
        ValueError
            If the modality is unknown or the overview is no image.
        """
        if modality not in MODALITIES:
            raise ValueError(f"unknown modality {modality!r}, known: {', '.join(MODALITIES)}")
        if modality != "brightfield":
            return EXPERT_OF[modality]
        return next(iter(self.brightfield.distances(rgb_features(overview))))

    def to_plain(self) -> dict[str, Any]:
        """Give the router as a dictionary of lists for joblib."""
        return {
            "format": FORMAT,
            "modalities": self.modalities.to_plain(),
            "brightfield": self.brightfield.to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Router":
        """Rebuild a router from :meth:`to_plain`; ValueError or KeyError if it is none."""
        if plain["format"] != FORMAT:
            raise ValueError(f"format {plain['format']!r}, this version reads {FORMAT}")
        return cls(
            Clusters.from_plain(plain["modalities"], MODALITIES),
            Clusters.from_plain(plain["brightfield"], BRIGHTFIELD_EXPERTS),
        )


def load_router(weights_dir: Path = WEIGHTS_DIR) -> Router:
    """Load the router, after its file has been verified.

    Parameters
    ----------
    weights_dir : Path
        Folder with ``router.joblib`` and ``manifest.json``.

    Returns
    -------
    Router
        Ready to route.

    Raises
    ------
    manifest.WeightsError
        If the file is missing, is not the one in the manifest, or holds no router.
    """
    content = verified_bytes(ROUTER_NAME, weights_dir)
    try:
        return Router.from_plain(_read_joblib(content))
    except Exception as error:  # a pickle may raise anything
        path = weights_dir / ROUTER_NAME
        raise WeightsError(f"{path}: holds no router ({error}); fit it again") from error


def with_log_variance(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace variances by their logarithms, whose spread K-Means can use.

    Parameters
    ----------
    features : (..., 6) ndarray of float64
        Three means, three variances of values in [0, 1].

    Returns
    -------
    (..., 6) ndarray of float64
        Three means, three natural logarithms.
    """
    means, variances = features[..., :3], features[..., 3:]
    return np.concatenate([means, np.log(variances + VARIANCE_FLOOR)], axis=-1)


class _PlainUnpickler(pickle.Unpickler):
    """Reads a pickle of numbers, texts, lists and dictionaries; any class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse what the pickle wants to import."""
        raise pickle.UnpicklingError(f"holds a {module}.{name}")


def _read_joblib(content: bytes) -> Any:
    """Read a joblib file: one of plain values without joblib, whose import takes 0.1 s."""
    try:
        plain = zlib.decompress(content) if content[:1] == b"\x78" else content  # zlib's first byte
        return _PlainUnpickler(io.BytesIO(plain)).load()
    except (pickle.UnpicklingError, zlib.error):  # arrays, or another compression
        import joblib  # noqa: PLC0415

        return joblib.load(io.BytesIO(content))
