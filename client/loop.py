"""The play loop: what every frame and every key goes through.

Way of one frame, the client's part: sleep until a picture or the next look at the keys -> take pictures,
newest by index -> take keys and send Buttons -> draw, flip, measure -> record.
"""

import random
import time
from collections.abc import Callable

from client.beside import BesideView
from client.connection import Connection, Picture
from client.controls import Controls
from client.engine_process import EngineProcess
from client.errors import UserError
from client.handshake import obituary, refusal
from client.link import Link
from client.options import PlayOptions
from client.pacing import INPUT_TICK_S, PAUSED_TICK_S, Pacer
from client.recorder import Recorder
from client.report import Report
from client.screen import Screen
from client.sound import Sound
from client.theme import Typeface
from client.view import WARN_S, View
from client.wishes import Wishes
from engine.protocol import (
    MAX_SEED,
    Beginning,
    BesideState,
    Command,
    Ended,
    Refused,
    ToClient,
    TrueStep,
    Welcome,
)
from games import GAMES

_REDRAW_S = 1 / 8


class Play:
    """The loop itself, between Welcome and the end. `error` holds what ended it, if it was not the player;
    `picture_failure` says why the picture that was asked for could not be saved."""

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
        self.picture_failure: str | None = None
        self._options, self._connection, self._screen, self._welcome = options, connection, screen, welcome
        self._recorder, self._stop = recorder, stop
        self._link = Link(options, connection, engine)
        self._wishes = Wishes(connection, options.seed)
        self._controls, self._pacer = Controls(self.spec, options.autopilot), Pacer()
        self.beside = BesideView()
        self._sound = None if screen.headless else Sound(self.spec, options.mute)
        self._view = View(screen, typeface, self.spec, welcome.backend)
        self._waiting: Picture | None = None
        self._shown: Picture | None = None
        self._over = self._paused = self._stepping = False
        now_s = time.perf_counter()
        self._drawn_s = now_s

    def run(self) -> None:
        """Play until the player, the clock or a failure ends it."""
        if self._options.beside:
            self._toggle_beside()
        while not self._over:
            self.step()
        self.report.finish(time.perf_counter())
        self._hush()
        self._connection.send(Command(kind="bye"))
        self._save_picture()
        if self.error is not None:
            self._view.farewell(str(self.error), self._shown)

    def step(self) -> None:
        """One turn of the loop."""
        waiting_s = self._waiting.received_s if self._waiting else None
        tick_s = PAUSED_TICK_S if self._paused else INPUT_TICK_S
        self._connection.wait(self._pacer.sleep_s(time.perf_counter(), waiting_s, tick_s))
        self._take_messages(time.perf_counter())
        self._take_keys()
        self._send_buttons()
        self._present()
        self._watch(time.perf_counter())

    # -- from the engine --------------------------------------------------------------------------------

    def _take_messages(self, now_s: float) -> None:
        received = self._connection.drain(now_s)
        if received.control or received.picture is not None:
            self._link.heard(now_s)
        for message in received.control:
            self._take_control(message, now_s)
        dropped, picture = received.superseded, received.picture
        if picture is not None and not self._fits(picture):
            self._connection.bad_messages += 1
            picture = None
        if received.beside is not None and self._fits(received.beside):
            self.beside.simulated(received.beside)
        if picture is not None:
            self.beside.dreamed(picture)
            dropped += self._waiting is not None
            self._waiting = picture
            self._link.expect_pictures(now_s)
            self._wishes.saw(picture.frame.epoch)
            self._pacer.arrived(now_s)
        if dropped and self.report.first_shown_s is not None:
            self.report.dropped(dropped)

    def _take_control(self, message: ToClient, now_s: float) -> None:
        if isinstance(message, Refused):
            self._end(refusal(message))
        elif isinstance(message, Ended):
            self._end(obituary(message))
        elif isinstance(message, Beginning | TrueStep):
            if self._recorder is not None:
                self._recorder.log(message)
        elif isinstance(message, BesideState):
            self._beside_state(message)
        elif isinstance(message, Welcome):
            self._welcomed_again(message)

    def _welcomed_again(self, welcome: Welcome) -> None:
        """The answer to a hello said in play. Of another session: the engine was started anew, or had let the
        old one go."""
        if welcome.session != self._welcome.session:
            self._welcome = welcome
            self._view.say("a new game: the engine had let the old one go")
            self.report.new_start()
            self._wishes.new_session(welcome.seed)
        elif self._wishes.in_doubt():
            self._wishes.say_again()

    def _beside_state(self, state: BesideState) -> None:
        self.beside.told(state)
        if state.state == "stopped":
            self._wishes.beside_stopped()
            self._view.widen(False)
            self._view.say(state.reason)

    def _fits(self, picture: Picture) -> bool:
        """Whether a frame is of this game; the protocol has checked the rest."""
        return len(picture.frame.telemetry) == len(self.spec.telemetry)

    # -- from the player --------------------------------------------------------------------------------

    @property
    def bad_messages(self) -> int:
        """Messages from the engine that did not parse or did not fit the game; they were ignored."""
        return self._connection.bad_messages

    def _take_keys(self) -> None:
        for command in self._controls.read():
            self._obey(command)
        if self._controls.news:
            self._view.say(self._controls.news)
            self._controls.news = ""
        if self._stop():
            self._over = True

    def _obey(self, command: str) -> None:
        match command:
            case "quit":
                self._over = True
            case "pause":
                self._resume() if self._paused else self._pause()
            case "leave" if self._paused:
                self._over = True
            case "leave":  # Q lies beside W and A: the first one only pauses, the second one quits
                self._pause()
            case "reset":
                self._start_again(None, "started again")
            case "new_seed":
                seed = random.randint(0, MAX_SEED)
                self._start_again(seed, f"seed {seed}")
            case "step" if self._paused:
                self._stepping = True
                self._connection.send(Command(kind="step"))
            case "fullscreen":
                self._screen.toggle_fullscreen()
            case "hud":
                self._view.toggle_hud()
            case "pulse":
                self._view.toggle_pulse()
            case "autopilot":
                self._view.say("autopilot on" if self._controls.toggle_autopilot() else "autopilot off")
            case "beside":
                self._toggle_beside()
            case "mute" if self._sound is not None:
                self._view.say("sound on" if self._sound.toggle() else "sound off")
            case "picture":
                self._view.save_picture(self.spec.name)

    def _pause(self) -> None:
        self._paused = True
        self._controls.release_all()
        self._wishes.say(Command(kind="pause"))
        self.report.pause(time.perf_counter())
        self._hush()

    def _hush(self) -> None:
        if self._sound is not None:
            self._sound.hush()

    def _resume(self) -> None:
        self._paused = self._stepping = False
        self._wishes.say(Command(kind="resume"))
        now_s = time.perf_counter()
        self._link.expect_pictures(now_s)
        self.report.resume(now_s)
        self._view.overlay_gone()

    def _start_again(self, seed: int | None, notice: str) -> None:
        self._wishes.start_again(seed)
        if self._paused:
            self._resume()
        self.report.new_start()
        self._link.expect_pictures(time.perf_counter())
        self._view.say(notice)

    def _toggle_beside(self) -> None:
        if self._options.reference:
            self._view.say("this is the simulator already")
            return
        self._wishes.say(Command(kind="beside" if self.beside.toggle() else "alone"))
        self._view.widen(self.beside.on)

    def _send_buttons(self) -> None:
        now_s = time.perf_counter()
        due = self._controls.due(now_s, silent=self._paused and not self._stepping)
        if due is None or not self._connection.send(due.message):
            return
        is_new = self._controls.sent(due, now_s)
        if is_new and not self._paused and self.report.first_shown_s is not None:
            self.report.input_sent(due.message.seq, due.key_s)
            if self._recorder is not None:
                self._recorder.input_sent(due.message.seq, due.key_s)

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
        elif self._shown is not None and now_s - self._drawn_s > _REDRAW_S:
            self._draw(now_s)

    def _measure(self, picture: Picture, shown_s: float) -> None:
        self._pacer.shown(shown_s)
        self.report.shown(picture.frame, shown_s)
        if self._sound is not None and not self._paused:
            self._sound.hear(picture.frame.telemetry, picture.frame.epoch)
        if self._recorder is not None:
            self._recorder.add(picture, shown_s)
        delay = self.report.input_delay_frames(default=picture.frame.lag + 1)
        # A filled frame tells what the true one before it told.
        self._controls.watch(picture.frame, delay + picture.frame.ahead)

    def _draw(self, now_s: float) -> None:
        assert self._shown is not None
        silent_s, unheard_s = (self._link.silent_s(now_s, standing) for standing in (self._paused, True))
        if self._wishes.starting and unheard_s <= WARN_S < silent_s:
            silent_s = unheard_s
            self._view.say("starting the world")
        self._view.draw(
            self._shown,
            self.report.live(now_s),
            now_s,
            silent_s=silent_s,
            paused=self._paused,
            stepping=self._stepping,
            remote=self._options.engine is not None,
            recording=self._recorder is not None,
            recording_failed=self._options.record is not None and self._recorder is None,
            beside=self.beside,
        )
        self._drawn_s = now_s

    # -- how it ends ------------------------------------------------------------------------------------

    def _watch(self, now_s: float) -> None:
        seconds = self._options.seconds
        if seconds is not None and self.report.played_s(now_s) >= seconds:
            self._over = True
        self._link.keep_in_touch(now_s, self._paused, self._wishes)
        starting = self._shown is None or self._wishes.starting
        if (error := self._link.failure(now_s, self._paused, starting)) is not None:
            self._end(error)
        if self._recorder is not None and self._recorder.failure is not None:
            self._view.say(self._recorder.failure)
            self._recorder = None

    def _save_picture(self) -> None:
        if self._options.picture is None or self._shown is None:
            return
        try:
            self._screen.save(str(self._options.picture))
        except UserError as error:
            self.picture_failure = str(error)

    def _end(self, error: UserError) -> None:
        if self.error is None:
            self.error = error
        self._over = True
