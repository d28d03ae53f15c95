"""What only Python has."""


def echo(*args):
    return ["python", *args]


class Account:
    def __init__(self, number):
        self.number = number

    def close(self, reason):
        return f"{self.number} closed: {reason}"
