"""PromptSet: a named, hashed set of instructions, ours or read from a local file.

Not covered: public sets by name (AdvBench and its siblings are read from a local copy by path).
"""

from safety_tasks.prompts.builtin import BUILTIN, load_prompts
from safety_tasks.prompts.prompt_set import Message, Prompt, PromptSet

__all__ = ["BUILTIN", "Message", "Prompt", "PromptSet", "load_prompts"]
