"""antiphon.comms"""
