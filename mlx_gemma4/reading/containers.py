"""What FFmpeg may take a file for: recordings and videos that are whole in themselves.

FFmpeg goes by content, whatever a file's name says, and some formats are only lists of
other files to be opened: concat, HLS, DASH, SDP, scripts of AviSynth. Such a text in
the place of a recording would have files opened that nobody named.
"""

import io
import struct
from pathlib import Path

from ..errors import MediaError
from .bounded import opened

# By FFmpeg's names. A list of what is safe, since what is not differs by build.
CONTAINERS = ",".join(
    (
        *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf", "flv", "ivf"),
        *("mpeg", "mpegts", "mpegvideo", "m4v", "h263", "h264", "hevc", "av1", "obu"),
        *("mxf", "nut", "dv", "rm", "wtv", "gxf", "mjpeg", "gif", "apng", "webp"),
        *("webp_pipe", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe"),
        *("wav", "w64", "aiff", "caf", "au", "flac", "ogg", "mp3", "aac", "loas"),
        *("ac3", "eac3", "ac4", "dts", "dtshd", "truehd", "mlp", "amr", "amrnb"),
        *("amrwb", "ape", "wv", "tta", "tak", "mpc", "mpc8", "shn", "dsf", "iff"),
        *("gsm", "voc", "oma", "qcp", "spdif", "sbc", "aptx", "ast", "xwma", "aa"),
        *("mmf", "sox", "ircam", "nistsphere", "pvf", "sds", "avr", "act", "dss"),
        *("vqf", "wve", "rso", "wsd", "lc3", "osq", "qoa", "bonk", "wavarc"),
    )
)
# Of av.open, and with a dash before each name of the program as well.
ONLY_MEDIA = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
MOST_BOXES = 100_000  # of a film that is written in fragments
LARGEST = 1 << 40  # bytes of one
PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"[playlist]")


def refuse_playlist(file: Path | bytes, name: str, kind: str) -> None:
    """Raises MediaError for a list of files in the place of one; `kind` as in
    `open_source`."""
    with opened(file) as stream:
        start = stream.read(16)
    if start.removeprefix(b"\xef\xbb\xbf").startswith(PLAYLISTS):
        raise MediaError(f"{name} is a playlist: name the {kind}s that it lists.")


def several_mp4(file: Path | bytes) -> bool:
    """Whether a film or m4a has another behind it, which no program looks for."""
    with opened(file) as stream:
        names: list[bytes] = []
        while len(head := stream.read(8)) == 8 and len(names) < MOST_BOXES:
            size, name = struct.unpack(">I4s", head)
            names.append(name)
            if names[0] != b"ftyp" or (name == b"ftyp" and b"moov" in names):
                break
            if size == 1:
                size = int.from_bytes(stream.read(8), "big") - 8
            if not 8 <= size < LARGEST:
                break
            stream.seek(size - 8, io.SEEK_CUR)
    return names[:1] == [b"ftyp"] and names.count(b"ftyp") > 1
