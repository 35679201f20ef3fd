"""Starts the runner. User code finds this module as `__main__`, so nothing else lives in it."""

if __name__ == "__main__":
    from holdfast_runner import start

    start.main()
