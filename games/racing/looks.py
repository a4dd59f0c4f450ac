"""The three looks: colours of everything, one row each (art direction: flat, few colours, one light)."""

from dataclasses import dataclass

from games.racing.art_car import Paint


@dataclass(frozen=True)
class Look:
    """Colours '#RRGGBB'. lamp is 0..1: how much the headlights show."""

    sky_top: str
    sky_low: str
    far_ridge: str
    near_ridge: str
    ground: str
    stripe: str
    shoulder: str
    road: str
    line: str
    kerb_a: str
    kerb_b: str
    haze: str
    lamp: float
    tree: str
    tree_dark: str
    tree_light: str
    trunk: str
    rock: str
    shadow: str
    player: Paint
    rivals: tuple[Paint, Paint, Paint]


LOOKS: tuple[Look, ...] = (
    Look(  # alpine morning, warm light from the upper left
        "#3F8FD2",
        "#DDEFF5",
        "#8FB0C9",
        "#5F8AA6",
        "#5FA65A",
        "#6DB365",
        "#8F9A72",
        "#5B6068",
        "#F2EFE6",
        "#D9483B",
        "#F4EDE0",
        "#D6E6EA",
        0.0,
        "#2F6B4A",
        "#245540",
        "#4C8A57",
        "#5E4637",
        "#8C949C",
        "#2B4038",
        Paint("#E4572E", "#8E2F22"),
        (Paint("#2F6FD0", "#1D3F80"), Paint("#F2C230", "#97701C"), Paint("#EDEFF2", "#6C7684")),
    ),
    Look(  # desert dusk, low sun ahead
        "#3B2C66",
        "#F7A663",
        "#8C4F73",
        "#5C3560",
        "#C9824D",
        "#D18E58",
        "#B87748",
        "#4B4048",
        "#FFE9C7",
        "#B83B4B",
        "#FBE3BF",
        "#F0A477",
        0.15,
        "#4F6B4A",
        "#38503F",
        "#7F8F57",
        "#5B3B3A",
        "#9A5546",
        "#5A3144",
        Paint("#1FA6A0", "#125B63", shade="#3A2347", ambient=0.58),
        (
            Paint("#D9483B", "#7A2430", shade="#3A2347", ambient=0.58),
            Paint("#F0D9A8", "#8F6B57", shade="#3A2347", ambient=0.58),
            Paint("#6A4FB0", "#3C2C70", shade="#3A2347", ambient=0.58),
        ),
    ),
    Look(  # neon night, headlight cone and glowing kerbs
        "#070B24",
        "#3A1B5E",
        "#1D1B45",
        "#131335",
        "#151A38",
        "#1B2147",
        "#191C3A",
        "#1C1D2E",
        "#39E6D8",
        "#FF3D8B",
        "#39E6D8",
        "#3A2A6B",
        1.0,
        "#1F2C6B",
        "#161C4A",
        "#2FA7B8",
        "#2A2350",
        "#2B2A63",
        "#0A0C22",
        Paint("#F2F4FF", "#6B6FA8", "#141833", "#FF3D8B", "#FF6FA8", "#2A2B66", 0.42, 0.46, 0.7),
        (
            Paint("#FF7A3D", "#7A2C4A", "#141833", "#FF3D5B", "#FF6F6F", "#241C50", 0.45, 0.4, 0.6),
            Paint("#39E6D8", "#1F6B86", "#141833", "#FF3D5B", "#FF6F6F", "#1C1F55", 0.42, 0.4, 0.6),
            Paint("#B06BFF", "#54309A", "#141833", "#FF3D5B", "#FF6F6F", "#1C1F55", 0.45, 0.4, 0.6),
        ),
    ),
)
