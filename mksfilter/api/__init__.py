"""Who answers a console request: Nova itself (``nova``), or we (``plain``)."""
