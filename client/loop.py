"""The play loop: what every frame and every key goes through.

Way of one frame, the client's part: sleep until a picture or the next look at the keys -> take pictures,
newest by index -> take keys and send Buttons -> draw, flip, measure -> record.
"""

import random
import time
from collections.abc import Callable

import pygame

from client.autopilot import Autopilot
from client.connection import Connection, Picture
from client.engine_process import EngineProcess
from client.errors import UserError
from client.handshake import hello, obituary, refusal
from client.keyboard import ButtonStream, Keyboard
from client.options import PlayOptions
from client.pacing import Pacer
from client.recorder import Recorder
from client.report import Report
from client.screen import Screen
from client.theme import Typeface
from client.view import WARN_S, View
from engine.protocol import MAX_SEED, Buttons, Command, Ended, Ping, Refused, ToClient, Welcome
from games import GAMES

LOST_S = 10.0
FIRST_PICTURE_S = 60.0
_REDRAW_S = 1 / 30
_PING_S = 0.5
_ENGINE_CHECK_S = 0.2


class Play:
    """The loop itself, between Welcome and the end. `error` holds what ended it, if it was not the player."""

    def __init__(
        self,
        options: PlayOptions,
        connection: Connection,
        screen: Screen,
        typeface: Typeface,
        welcome: Welcome,
        engine: EngineProcess | None = None,
        recorder: Recorder | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """stop: asked every turn, True ends the play (a signal arrived)."""
        self.spec = GAMES[options.game]
        self.report = Report(self.spec, options.mode, options.seed)
        self.error: UserError | None = None
        self._options, self._connection, self._screen, self._welcome = options, connection, screen, welcome
        self._engine, self._recorder, self._stop = engine, recorder, stop
        self._keyboard, self._stream, self._pacer = Keyboard(self.spec), ButtonStream(), Pacer()
        self._autopilot = Autopilot(self.spec) if options.autopilot else None
        self._view = View(screen, typeface, self.spec, welcome.backend)
        self._waiting: Picture | None = None
        self._shown: Picture | None = None
        self._over = self._paused = self._stepping = False
        self._auto_mask = self._auto_pressed = 0
        self._decided_s = 0.0
        self._left_epoch: int | None = None  # asked to start again; pictures of a newer one are on their way
        now_s = time.perf_counter()
        self._looked_s = self._heard_s = self._drawn_s = self._pinged_s = self._checked_s = now_s

    def run(self) -> None:
        """Play until the player, the clock or a failure ends it."""
        while not self._over:
            self.step()
        self.report.finish(time.perf_counter())
        self._connection.send(Command(kind="bye"))
        if self.error is not None:
            self._view.farewell(str(self.error), self._shown)

    def step(self) -> None:
        """One turn of the loop."""
        waiting_s = self._waiting.received_s if self._waiting else None
        self._connection.wait(self._pacer.sleep_s(time.perf_counter(), waiting_s))
        self._take_messages(time.perf_counter())
        self._take_keys()
        self._send_buttons()
        self._present()
        self._watch(time.perf_counter())

    # -- from the engine --------------------------------------------------------------------------------

    def _take_messages(self, now_s: float) -> None:
        received = self._connection.drain(now_s)
        for message in received.control:
            self._take_control(message, now_s)
        dropped, picture = received.superseded, received.picture
        if picture is not None and not self._fits(picture):
            self._connection.bad_messages += 1
            picture = None
        if picture is not None:
            dropped += self._waiting is not None
            self._waiting, self._heard_s = picture, now_s
            if self._left_epoch is not None and picture.frame.epoch > self._left_epoch:
                self._left_epoch = None
            self._pacer.arrived(now_s)
        if dropped and self.report.first_shown_s is not None:
            self.report.dropped(dropped)

    def _take_control(self, message: ToClient, now_s: float) -> None:
        if self._paused:
            self._heard_s = now_s
        if isinstance(message, Refused):
            self._end(refusal(message))
        elif isinstance(message, Ended):
            self._end(obituary(message))
        elif isinstance(message, Welcome) and message.session != self._welcome.session:
            self._welcome = message  # the engine was started anew while the link was down
            self._connection.forget_order()
            self.report.new_start()

    def _fits(self, picture: Picture) -> bool:
        """Whether a frame is of this game; the protocol has checked the rest."""
        return len(picture.frame.telemetry) == len(self.spec.telemetry)

    # -- from the player --------------------------------------------------------------------------------

    @property
    def bad_messages(self) -> int:
        """Messages from the engine that did not parse or did not fit the game; they were ignored."""
        return self._connection.bad_messages

    def _take_keys(self) -> None:
        """Read all window events. A key's own time is not known to SDL's queue here: the middle between the
        last two looks stands for it, which is right on average even when a flip blocked in between."""
        before_s, self._looked_s = self._looked_s, time.perf_counter()
        self._key_time_s = (before_s + self._looked_s) / 2
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._over = True
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._keyboard.release_all()
            elif not self._keyboard.handle(event) and event.type == pygame.KEYDOWN:
                self._take_command(event.key)
        if self._stop():
            self._over = True

    def _take_command(self, key: int) -> None:
        if key in (pygame.K_p, pygame.K_ESCAPE):
            self._resume() if self._paused else self._pause()
        elif key == pygame.K_q:
            # Q lies beside W and A: the first one only pauses, the second one quits.
            if self._paused:
                self._over = True
            else:
                self._pause()
        elif key == pygame.K_r:
            self._start_again(Command(kind="reset"), "started again")
        elif key == pygame.K_n:
            seed = random.randint(0, MAX_SEED)
            self._start_again(Command(kind="new_seed", seed=seed), f"seed {seed}")
        elif key == pygame.K_PERIOD and self._paused:
            self._stepping = True
            self._connection.send(Command(kind="step"))
        elif key in (pygame.K_F11, pygame.K_f):
            self._screen.toggle_fullscreen()
        elif key == pygame.K_h:
            self._view.toggle_hud()
        elif key == pygame.K_t:
            self._toggle_autopilot()
        elif key == pygame.K_F2:
            self._view.save_picture(self.spec.name)

    def _pause(self) -> None:
        self._paused = True
        self._keyboard.release_all()
        self._connection.send(Command(kind="pause"))
        self.report.pause(time.perf_counter())

    def _resume(self) -> None:
        self._paused = self._stepping = False
        self._connection.send(Command(kind="resume"))
        now_s = self._heard_s = time.perf_counter()
        self.report.resume(now_s)
        self._view.overlay_gone()

    def _start_again(self, command: Command, notice: str) -> None:
        self._connection.send(command)
        if self._paused:
            self._resume()
        self.report.new_start()
        self._heard_s = time.perf_counter()
        self._left_epoch = self._shown.frame.epoch if self._shown is not None else None
        self._view.say(notice)

    def _toggle_autopilot(self) -> None:
        self._autopilot = None if self._autopilot else Autopilot(self.spec)
        self._auto_mask = self._auto_pressed = 0
        self._view.say("autopilot on" if self._autopilot else "autopilot off")

    def _send_buttons(self) -> None:
        """Keys win over the autopilot. Taps wait in the stream until a message could be sent."""
        held, pressed, time_s = self._keyboard.held, self._keyboard.take_pressed(), self._key_time_s
        if not held and not pressed and self._autopilot is not None:
            held, pressed, time_s = self._auto_mask, self._auto_pressed, self._decided_s
        self._auto_pressed = 0
        if self._paused and not self._stepping:
            held = pressed = 0
        now_s = time.perf_counter()
        message: Buttons | None = self._stream.next(held, pressed, now_s)
        if message is not None and self._connection.send(message):
            is_new = self._stream.sent(message, now_s)
            if is_new and not self._paused and self.report.first_shown_s is not None:
                self.report.input_sent(message.seq, time_s)
                if self._recorder is not None:
                    self._recorder.input_sent(message.seq, time_s)

    # -- to the screen ----------------------------------------------------------------------------------

    def _present(self) -> None:
        """Show the waiting picture if it is due; otherwise redraw now and then while something hangs over
        it."""
        now_s = time.perf_counter()
        picture = self._waiting
        if picture is not None and now_s >= self._pacer.due_s(picture.received_s):
            self._waiting, self._shown = None, picture
            self._draw(now_s)
            self._measure(picture, time.perf_counter())
        elif self._shown is not None and now_s - self._drawn_s > (
            _REDRAW_S if self._paused else 4 * _REDRAW_S
        ):
            self._draw(now_s)

    def _measure(self, picture: Picture, shown_s: float) -> None:
        self._pacer.shown(shown_s)
        self.report.shown(picture.frame, shown_s)
        if self._recorder is not None:
            self._recorder.add(picture, shown_s)
        if self._autopilot is not None:
            delay = self.report.input_delay_frames(default=picture.frame.lag + 1)
            mask = self._autopilot.decide(picture.frame.telemetry, picture.frame.index, delay)
            self._auto_pressed |= mask & ~self._auto_mask
            self._auto_mask = mask
            self._decided_s = time.perf_counter()

    def _draw(self, now_s: float) -> None:
        assert self._shown is not None
        silent_s = now_s - self._heard_s
        if self._left_epoch is not None and silent_s > WARN_S:
            silent_s = 0.0
            self._view.say("starting the world")
        self._view.draw(
            self._shown,
            self.report.live(now_s),
            now_s,
            silent_s=silent_s,
            paused=self._paused,
            stepping=self._stepping,
            recording=self._recorder is not None,
        )
        self._drawn_s = now_s

    # -- how it ends ------------------------------------------------------------------------------------

    def _watch(self, now_s: float) -> None:
        seconds = self._options.seconds
        if seconds is not None and self.report.played_s(now_s) >= seconds:
            self._over = True
        self._keep_in_touch(now_s)
        if self._engine is not None and now_s - self._checked_s > _ENGINE_CHECK_S:
            self._checked_s = now_s
            try:
                self._engine.check()
            except UserError as error:
                self._end(error)
        if self._recorder is not None and self._recorder.failure is not None:
            self._view.say(self._recorder.failure)
            self._recorder = None
        starting = self._shown is None or self._left_epoch is not None
        patience_s = FIRST_PICTURE_S if starting else LOST_S
        if now_s - self._heard_s > patience_s:
            self._end(UserError(f"the engine sent no picture for {patience_s:.0f} s; {self._what_to_do()}"))

    def _keep_in_touch(self, now_s: float) -> None:
        """While paused, ask for a sign of life; while nothing comes, introduce ourselves again."""
        if now_s - self._pinged_s < _PING_S:
            return
        if self._paused:
            self._connection.send(Ping())
        elif now_s - self._heard_s > WARN_S:
            self._connection.send(hello(self._options))
        self._pinged_s = now_s

    def _what_to_do(self) -> str:
        if self._options.engine is not None:
            return f"check that it still runs and that {self._options.engine} can be reached"
        return "run `dreamcade doctor` and play again"

    def _end(self, error: UserError) -> None:
        if self.error is None:
            self.error = error
        self._over = True
