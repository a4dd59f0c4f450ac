"""Colours of the three looks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """One look. Hills from far to near; `haze` is what distance mixes to, `rim` outlines figures."""

    sky: tuple[str, str]
    hills: tuple[str, str, str]
    haze: str
    cap: str
    cap_light: str
    body: str
    body_tone: str
    pit: str
    hero: str
    hero_dark: str
    face: str
    eye: str
    scarf: str
    scarf_dark: str
    rim: str
    enemy: str
    enemy_dark: str
    spiked: str
    spike: str
    coin: str
    coin_dark: str
    coin_light: str
    deck: str
    deck_body: str
    accent: str


MEADOW = Palette(
    sky=("#79C7F2", "#E9F8EE"), hills=("#BFE3DA", "#8CCBA8", "#5FAE7B"), haze="#DDF3EE",
    cap="#57B956", cap_light="#8AD96F", body="#B98255", body_tone="#C48E60", pit="#3C4A5E",
    hero="#2D4B9A", hero_dark="#213873", face="#FFE3C2", eye="#22305F", scarf="#F25C54", scarf_dark="#C9403F",
    rim="#1C2850", enemy="#8E4FB0", enemy_dark="#6C3790", spiked="#6A3B8C", spike="#FFF1DC",
    coin="#F7C531", coin_dark="#C98A1B", coin_light="#FFE58A", deck="#F0883E", deck_body="#7E5A6B",
    accent="#FFFFFF",
)  # fmt: skip
CAVERN = Palette(
    sky=("#1B2440", "#33507A"), hills=("#253459", "#2D4470", "#375487"), haze="#3C5C8C",
    cap="#5AD1C2", cap_light="#9BEBDD", body="#4A4F78", body_tone="#535986", pit="#0F1428",
    hero="#F2E9DC", hero_dark="#C9BBAA", face="#3A3558", eye="#FFD75E", scarf="#F28C38", scarf_dark="#C4662A",
    rim="#171B34", enemy="#C8456B", enemy_dark="#97304F", spiked="#A23A78", spike="#F6E3D2",
    coin="#FFD75E", coin_dark="#C8912E", coin_light="#FFF0B0", deck="#F2A65A", deck_body="#6E5F8C",
    accent="#7DF0E0",
)  # fmt: skip
CITY = Palette(
    sky=("#2B1E50", "#F28B6A"), hills=("#4A2F6B", "#5F3A78", "#7A4685"), haze="#D97B74",
    cap="#F2B84B", cap_light="#FFDD8A", body="#4B3A66", body_tone="#554273", pit="#170F2B",
    hero="#E9F1F7", hero_dark="#B7C4D6", face="#2F2450", eye="#3ED6C4", scarf="#3ED6C4", scarf_dark="#2AA79B",
    rim="#1D1438", enemy="#D93A5B", enemy_dark="#A52647", spiked="#B02A66", spike="#FFE9D2",
    coin="#FFE08A", coin_dark="#D0963F", coin_light="#FFF4CC", deck="#3ED6C4", deck_body="#6B5590",
    accent="#FFD9A0",
)  # fmt: skip
PALETTES = (MEADOW, CAVERN, CITY)
"""In the order of spec.looks."""
