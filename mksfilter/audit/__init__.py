"""Who was on which machine's console, when, from where: one JSON event for each thing that happens.

``events`` says what an event is and ``trail`` takes them to where they are kept, without making
anybody wait; ``file``, ``syslog`` and ``messaging`` are such places. ``reading`` reads events back,
``story`` follows one console through them, ``reconcile`` compares them with vCenter's own.
"""
