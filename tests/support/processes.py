"""Python programs in processes of their own."""

# A program whose parent ignores Ctrl-C, as those under nohup and those that a script starts with & do, ignores it as well:
# a test that sends SIGINT has its child run this line first.
HEAR_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
