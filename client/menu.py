"""The title menu: the two games' posters side by side. Left and right choose, Enter plays."""

import time
from collections.abc import Callable

import pygame

from client.gamepad import Gamepads
from client.poster import TITLE_COLOURS, poster
from client.screen import Screen
from client.theme import DIM, FAINT, INK, TRUE, Typeface, ease_out, panel, rounded
from games import GAMES

_SIZE = (720, 480)
_CARD = (312, 264)
_REDRAW_S = 1 / 30
_TAGS = {"racing": "steer, brake, do not hit the others", "platformer": "run, jump, collect, reach the flag"}


class Menu:
    """`run` returns the chosen game, or None when the player left."""

    def __init__(self, screen: Screen, typeface: Typeface, stop: Callable[[], bool]) -> None:
        self._screen, self._type, self._stop = screen, typeface, stop
        self._names = list(GAMES)
        self._cards = {name: _card(name) for name in self._names}
        self._pads = Gamepads(GAMES["racing"])  # for plugging in, and its LEFT and RIGHT
        self._at, self._moved_s = 0, 0.0

    def run(self) -> str | None:
        while not self._stop():
            for event in pygame.event.get():
                done, choice = self._take(event)
                if done:
                    return choice
            self.draw(time.perf_counter())
            self._screen.flip()
            time.sleep(_REDRAW_S)
        return None

    def _take(self, event: pygame.event.Event) -> tuple[bool, str | None]:
        """(whether the menu is over, what was chosen)."""
        self._pads.handle(event)
        tapped = self._pads.take_pressed()
        if event.type == pygame.QUIT:
            return True, None
        if event.type == pygame.KEYDOWN:
            if event.key in (pygame.K_q, pygame.K_ESCAPE):
                return True, None
            if event.key in (pygame.K_RETURN, pygame.K_KP_ENTER, pygame.K_SPACE):
                return True, self._names[self._at]
            if event.key in (pygame.K_f, pygame.K_F11):
                self._screen.toggle_fullscreen()
            tapped |= {pygame.K_LEFT: 1, pygame.K_a: 1, pygame.K_RIGHT: 2, pygame.K_d: 2}.get(event.key, 0)
        if event.type == pygame.CONTROLLERBUTTONDOWN and event.button == pygame.CONTROLLER_BUTTON_A:
            return True, self._names[self._at]
        if event.type == pygame.MOUSEBUTTONDOWN:
            hit = next((i for i in range(len(self._names)) if _place(i).collidepoint(event.pos)), None)
            return hit is not None, self._names[hit or 0]
        if tapped & 3:
            self._at = (self._at + (1 if tapped & 2 else -1)) % len(self._names)
            self._moved_s = time.perf_counter()
        return False, None

    def draw(self, now_s: float) -> None:
        canvas = self._screen.canvas
        canvas.fill((17, 24, 44))
        canvas.blit(self._type.text("Dreamcade", 56), (40, 28))
        canvas.blit(self._type.text("games that a neural network imagines while you play", 16, DIM), (43, 94))
        for i, name in enumerate(self._names):
            self._draw_card(canvas, i, name, ease_out(now_s - self._moved_s) if i == self._at else 0.0)
        x = 40
        for key, word in (("arrows", "choose"), ("Enter", "play"), ("F", "full screen"), ("Q", "quit")):
            x = self._hint(canvas, x, key, word)

    def _draw_card(self, canvas: pygame.Surface, i: int, name: str, lit: float) -> None:
        place = _place(i)
        if lit > 0:
            canvas.blit(rounded(place.width + 12, place.height + 12, TRUE, 14), place.move(-6, -6))
        canvas.blit(self._cards[name], place)
        canvas.blit(self._type.text(GAMES[name].title, 28, TITLE_COLOURS[name]), place.move(20, 14))
        strip = panel(place.width - 16, 40)
        canvas.blit(strip, (place.left + 8, place.bottom - 48))
        word = self._type.text(_TAGS[name], 13, INK if lit > 0 else DIM)
        canvas.blit(word, (place.left + 24, place.bottom - 28 - word.get_height() // 2))

    def _hint(self, canvas: pygame.Surface, x: int, key: str, word: str) -> int:
        cap = self._type.text(key, 13, INK)
        canvas.blit(rounded(cap.get_width() + 14, 24, FAINT, 6), (x, 432))
        canvas.blit(cap, (x + 7, 432 + (24 - cap.get_height()) // 2))
        label = self._type.text(word, 13, DIM)
        canvas.blit(label, (x + cap.get_width() + 22, 432 + (24 - label.get_height()) // 2))
        return x + cap.get_width() + label.get_width() + 46


def _place(i: int) -> pygame.Rect:
    return pygame.Rect((40 + i * (_CARD[0] + 16), 140), _CARD)


def _card(name: str) -> pygame.Surface:
    """The poster with round corners."""
    card = pygame.Surface(_CARD, pygame.SRCALPHA)
    card.blit(rounded(*_CARD, (255, 255, 255, 255), 10), (0, 0))
    card.blit(poster(name, _CARD).convert_alpha(), (0, 0), special_flags=pygame.BLEND_RGBA_MIN)
    return card


def choose(stop: Callable[[], bool], fullscreen: bool = False) -> str | None:
    """Open a window with the menu; the chosen game, or None. Raises UserError when there is no display."""
    screen = Screen("Dreamcade", _SIZE, fullscreen=fullscreen)
    try:
        return Menu(screen, Typeface(), stop).run()
    finally:
        screen.close()
