"""Time, as pure logic: the game clock, the buttons frame by frame, which picture is shown, what steps were
made from."""
