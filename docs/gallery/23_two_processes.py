"""Sender and receiver in two processes: messages and gradients are plain tensors, and the receiver needs no antiphon."""

import torch
import torch.multiprocessing as processes
from torch import nn
from torch.nn.functional import cross_entropy

from antiphon import comms


def receiver(messages, gradients):
    voice = nn.Linear(32, 4)
    optimiser = torch.optim.Adam(voice.parameters(), lr=1e-2)
    for number, message, label in iter(messages.get, None):
        loss = cross_entropy(voice(message), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        gradients.put((number, message.grad))
    print(f"loss {loss.item():.2f}")
    assert loss < 1


if __name__ == "__main__":
    torch.manual_seed(0)
    context = processes.get_context("spawn")
    messages, gradients = context.Queue(), context.Queue()
    process = context.Process(target=receiver, args=(messages, gradients))
    process.start()
    eye, truth = nn.Linear(20, 32), torch.randn(20, 4)
    optimiser = torch.optim.Adam(eye.parameters(), lr=1e-2)
    seen, sent = comms.Channel(32, context={"label": 4}, name="seen"), {}
    for number in range(200):
        image = torch.randn(64, 20)
        label = (image @ truth).argmax(1)
        seen.send(eye(image), label=label)
        sent[number] = seen.receive()
        messages.put((number, sent[number], label))
        seen.credit().backward()
        optimiser.step()
        optimiser.zero_grad()
        while len(sent) > 8 or not gradients.empty():  # at most eight messages ahead
            returned, gradient = gradients.get()
            sent.pop(returned).backward(gradient)
        seen.learn()
    messages.put(None)
    process.join()
    assert process.exitcode == 0
